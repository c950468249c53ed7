// Keeps the site for when there is no network: each file under the SHA-256 of its content, so that versions never mix.
//
// A version that is kept whole is the `latest`: it is what an opened page gets. That page and its workers go on with it, whatever
// is kept later. So it does not matter which version of this program is asked, and none waits for another to end.

const SITE = {"version": "", "files": {}};
const CACHE = "audiorep";
const base = new URL(".", self.location);

const keyOf = (name, sum) => new URL(`${name}?${sum}`, base).href;
const placeOf = (role) => new URL(`?${role}`, base).href;
const roleOf = (client) => `client=${client}`;

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(takePages()));
self.addEventListener("fetch", (event) => {
  const { url, method } = event.request;
  if (method === "GET" && url.startsWith(base.href)) event.respondWith(answerTo(event));
});

async function answerTo({ request, clientId, resultingClientId }) {
  const cache = await caches.open(CACHE);
  const own = request.mode === "navigate" ? null : await versionOf(cache, roleOf(clientId));
  const version = own ?? (await versionOf(cache, "latest")) ?? { files: {} };
  if (resultingClientId) await cache.put(placeOf(roleOf(resultingClientId)), Response.json(version)); // a page or a worker
  const name = new URL(request.url).pathname.slice(base.pathname.length) || "index.html";
  const kept = Object.hasOwn(version.files, name) && (await cache.match(keyOf(name, version.files[name])));
  return kept || fetch(request);
}

/** The page that was open before anything was kept is of this version. */
async function takePages() {
  const cache = await caches.open(CACHE);
  await self.clients.claim();
  for (const { id } of await self.clients.matchAll({ type: "all" })) {
    if (!(await versionOf(cache, roleOf(id)))) await cache.put(placeOf(roleOf(id)), Response.json(SITE));
  }
}

async function versionOf(cache, role) {
  return (await cache.match(placeOf(role)))?.json();
}

/** Keeps all files, or fails, and then the version before stays. */
async function keepAll() {
  const cache = await caches.open(CACHE);
  await Promise.all(Object.entries(SITE.files).map(([name, sum]) => keep(cache, name, sum)));
  await cache.put(placeOf("latest"), Response.json(SITE));
  await forgetOthers(cache);
}

/** Fetches a file that is not kept yet, and compares it with its sum. */
async function keep(cache, name, sum) {
  if (await cache.match(keyOf(name, sum))) return;
  const answer = await fetch(new URL(name, base), { cache: "no-cache" });
  const content = await answer.arrayBuffer();
  if (!answer.ok || (await sumOf(await unpacked(content, name))) !== sum) throw new Error(`${name} is of another version`);
  const headers = { "Content-Type": answer.headers.get("Content-Type") ?? "application/octet-stream" };
  await cache.put(keyOf(name, sum), new Response(content, { headers }));
}

/** Forgets what neither this version nor an open page needs. */
async function forgetOthers(cache) {
  const clients = await self.clients.matchAll({ includeUncontrolled: true, type: "all" });
  const roles = clients.map(({ id }) => roleOf(id));
  const versions = await Promise.all(roles.map((role) => versionOf(cache, role)));
  const files = [SITE, ...versions].flatMap((version) => Object.entries(version?.files ?? {}));
  const wanted = new Set([...files.map(([name, sum]) => keyOf(name, sum)), ...["latest", ...roles].map(placeOf)]);
  for (const { url } of await cache.keys()) if (!wanted.has(url)) await cache.delete(url);
}

/** Some servers tell the browser to unpack packed files on the way. */
async function unpacked(content, name) {
  const [first, second] = new Uint8Array(content, 0, Math.min(2, content.byteLength));
  if (!name.endsWith(".gz") || first !== 0x1f || second !== 0x8b) return content;
  return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function sumOf(content) {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
