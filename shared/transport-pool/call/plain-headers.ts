import { contextHeaders } from "#shared/call-context";
import { isPlainField } from "#shared/unread";

type Given = ConstructorParameters<typeof Headers>[0];

const inherited: ReadonlySet<string> = new Set(Object.values(contextHeaders));
/** What the protocols write themselves. */
const ofProtocols = /^(?:grpc-.*|connect-.*|content-.*|accept-encoding|te|user-agent)$/;

/**
 * Pairs of names and values which are sure to be sent as they are, beside those that the pool adds: then there is no need
 * of Headers. Undefined for all that Headers would have to look at.
 */
export function sendablePairs(given: Given): readonly (readonly [name: string, value: string])[] | undefined {
  if (!Array.isArray(given)) return undefined;
  const pairs: (readonly [string, string])[] = [];
  for (const pair of given as unknown[]) {
    if (!Array.isArray(pair) || pair.length !== 2) return undefined;
    const [name, value]: unknown[] = pair;
    if (typeof name !== "string" || !isPlainField(name, value)) return undefined;
    if (inherited.has(name) || ofProtocols.test(name) || pairs.some(([other]) => other === name)) return undefined;
    pairs.push([name, value]);
  }
  return pairs;
}
