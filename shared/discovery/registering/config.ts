import { z } from "zod";
import { duration, section } from "#shared/config";
import { hostPortSchema } from "../addresses/host-port.ts";
import { type ConsulTarget, type EtcdTarget, targetSchema } from "../addresses/target.ts";

const registrySchema = z.string().transform((text, context): EtcdTarget | ConsulTarget => {
  const { success, data, error } = targetSchema.safeParse(text);
  const isRegistry = success && (data.scheme === "etcd" || data.scheme === "consul");
  if (isRegistry && !(data.scheme === "consul" && data.tag !== undefined)) return data;
  const expected = "expected etcd:///name or consul:///name";
  const message = success ? expected : `${expected}; ${error.issues.map((issue) => issue.message).join("; ")}`;
  context.addIssue({ code: "custom", message: isRegistry ? `${expected}, tags under tags` : message });
  return z.NEVER;
});

/**
 * `registration` of a service's YAML: where the others find this instance.
 *
 * @example
 * registration:
 *   address: etcd:///book-service
 *   advertise: 10.0.0.7:9002
 */
export const registrationSection = section(
  {
    /** The registry and the name of the service; the registry's servers are those of `discovery`. */
    address: registrySchema,
    /** Where the others reach this instance: `host:port`. */
    advertise: hostPortSchema,
    /** An instance that is gone without a word is listed for so long. It is renewed at a third of it. Whole seconds. */
    ttl: duration("10s", { min: "3s", max: "1h" }).refine((ms) => ms % 1_000 === 0, "must be whole seconds"),
    /** This instance's share of the calls, compared with the others'. */
    weight: z.int().min(1).max(65_535).default(1),
    /** Only for Consul. */
    tags: z.array(z.string().min(1)).default([]),
  },
  ({ address, tags }, fault) => {
    if (address?.scheme === "etcd" && tags !== undefined && tags.length > 0) fault("tags", "etcd has no tags");
  },
);

export type RegistrationConfig = z.output<typeof registrationSection>;
