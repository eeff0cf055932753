import { Code, ConnectError } from "@connectrpc/connect";

/** The path of a URL that an interceptor may have put in place of the method's own. @throws ConnectError for another origin */
export function pathOf(url: string, origin: string): string {
  const { pathname, search, origin: other } = new URL(url);
  if (other === origin) return pathname + search;
  throw new ConnectError(`cannot send a request to ${other}: the service is at ${origin}`, Code.Internal);
}
