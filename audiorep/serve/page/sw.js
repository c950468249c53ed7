// Keeps the site for when there is no network: each file under the SHA-256 of its content, so that versions never mix.

const SITE = {"version": "", "files": {}};
const CACHE = "audiorep";
const base = new URL(".", self.location);

const keyOf = (name) => new URL(`${name}?${SITE.files[name]}`, base).href;

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers().then(() => self.clients.claim())));
self.addEventListener("message", ({ data }) => data === "take over" && takeOver());

self.addEventListener("fetch", (event) => {
  const { url, method } = event.request;
  const place = new URL(url);
  const isOurs = method === "GET" && place.origin === base.origin && place.pathname.startsWith(base.pathname);
  const name = place.pathname.slice(base.pathname.length) || "index.html";
  if (isOurs && Object.hasOwn(SITE.files, name)) event.respondWith(kept(name, event.request));
});

/** This version replaces the one before, unless another tab still shows that. */
async function takeOver() {
  const windows = await self.clients.matchAll({ includeUncontrolled: true, type: "window" });
  if (windows.filter(({ url }) => url.startsWith(base.href)).length < 2) await self.skipWaiting();
}

async function kept(name, request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(keyOf(name))) ?? fetch(request);
}

async function keepAll() {
  const cache = await caches.open(CACHE);
  await Promise.all(Object.keys(SITE.files).map((name) => keep(cache, name)));
}

/** Fetches a file that is not kept yet; fails where it is not of this version, so that the version before stays. */
async function keep(cache, name) {
  if (await cache.match(keyOf(name))) return;
  const answer = await fetch(new URL(name, base), { cache: "no-cache" });
  const content = await answer.arrayBuffer();
  if (!answer.ok || (await sum(await unpacked(content, name))) !== SITE.files[name]) throw new Error(`${name} is of another version`);
  const headers = { "Content-Type": answer.headers.get("Content-Type") ?? "application/octet-stream" };
  await cache.put(keyOf(name), new Response(content, { headers }));
}

/** Some servers tell the browser to unpack packed files on the way. */
async function unpacked(content, name) {
  const [first, second] = new Uint8Array(content, 0, Math.min(2, content.byteLength));
  if (!name.endsWith(".gz") || first !== 0x1f || second !== 0x8b) return content;
  return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function sum(content) {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function forgetOthers() {
  const cache = await caches.open(CACHE);
  const wanted = new Set(Object.keys(SITE.files).map(keyOf));
  for (const { url } of await cache.keys()) if (!wanted.has(url)) await cache.delete(url);
}
