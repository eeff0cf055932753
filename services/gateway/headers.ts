/** Metadata that belongs to one connection or one protocol, and is written anew for the next. */
const hopByHop =
  /^(grpc-.*|connect-.*|content-.*|accept-encoding|connection|date|keep-alive|server|te|trailer|transfer-encoding|vary)$/;

/** The headers that are on the list. */
export function pickHeaders(from: Headers, allowed: readonly string[]): Headers {
  const picked = new Headers();
  for (const name of allowed) {
    const value = from.get(name);
    if (value !== null) picked.set(name, value);
  }
  return picked;
}

/** All metadata but what the protocols wrote. */
export function endToEnd(from: Headers): Headers {
  return new Headers([...from].filter(([name]) => !hopByHop.test(name)));
}

export function appendAll(to: Headers, from: Headers): void {
  for (const [name, value] of from) to.append(name, value);
}
