// Files of a site that gzip packed.

/** The content of such a file; some servers tell the browser to unpack it on the way. Throws one sentence for people. */
export async function unpacked(address) {
  const missing = `${address.pathname} cannot be loaded`;
  const answer = await fetch(address).catch(() => {
    throw new Error(`${missing}: the network or the server does not answer. Try again.`);
  });
  if (!answer.ok) throw new Error(`${missing}: the server answers ${answer.status}. Make the site again, and copy all of it.`);
  const content = await answer.arrayBuffer();
  const [first, second] = new Uint8Array(content, 0, Math.min(2, content.byteLength));
  if (first !== 0x1f || second !== 0x8b) return content;
  return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
