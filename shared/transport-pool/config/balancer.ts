import { z } from "zod";
import { section } from "#shared/config";

/** A field name of RFC 9110, lower case as HTTP/2 wants it. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

const policySchema = z.enum(["pick_first", "round_robin", "least_request", "consistent_hash"]);

/**
 * How the calls to a service are spread over its peers.
 *
 * @example
 * balancer:
 *   policy: consistent_hash
 *   hash_header: x-user-id
 */
export const balancerSection = section(
  {
    /**
     * - `pick_first`: all to one peer, until it goes;
     * - `round_robin`: one after the other, each by its weight;
     * - `least_request`: of two peers drawn at random, the one with less to do and quicker answers (gRFC A48);
     * - `consistent_hash`: those that carry the same `hash_header` to the same peer.
     */
    policy: policySchema.default("least_request"),
    /** The request header that keeps calls together, in lower case; with `consistent_hash` only, which needs it. */
    hash_header: z.string().regex(HEADER_NAME, "expected the name of a header in lower case").optional(),
    /** For large sets: of all peers, connect to this many only (gRFC A68). Default: all. */
    subset: z.int().min(1).optional(),
  },
  ({ policy, hash_header }, fault) => {
    // A policy that does not exist is a fault by itself, and says nothing of the header.
    if (!policySchema.safeParse(policy).success) return;
    const isHash = policy === "consistent_hash";
    if (isHash && hash_header === undefined) fault("hash_header", "needed with policy consistent_hash");
    if (!isHash && hash_header !== undefined) fault("hash_header", "only for policy consistent_hash");
  },
);

export type BalancerConfig = z.output<typeof balancerSection>;
