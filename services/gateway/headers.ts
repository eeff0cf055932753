/** Metadata that belongs to one connection or one protocol, and is written anew for the next. */
const hopByHop =
  /^(grpc-.*|connect-.*|content-.*|accept-encoding|connection|date|http2-settings|keep-alive|proxy-connection|server|te|trailer|transfer-encoding|upgrade|vary)$/;

/** The headers that are on the list; undefined when there are none. */
export function pickHeaders(from: Headers, allowed: readonly string[]): [name: string, value: string][] | undefined {
  let picked: [string, string][] | undefined;
  for (const name of allowed) {
    const value = from.get(name);
    if (value === null) continue;
    picked ??= [];
    picked.push([name, value]);
  }
  return picked;
}

/** All metadata but what the protocols wrote. */
export function appendEndToEnd(to: Headers, from: Headers): void {
  from.forEach((value, name) => {
    if (!hopByHop.test(name)) to.append(name, value);
  });
}

export function appendAll(to: Headers, pairs: readonly [name: string, value: string][] = []): void {
  for (const [name, value] of pairs) to.append(name, value);
}
