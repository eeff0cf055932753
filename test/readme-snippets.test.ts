// README.md's TypeScript compiles against what is there, and its table of policies says what the schema says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { discoverySection, registrationSection } from "#shared/discovery";
import { grpcClientsSection } from "#shared/transport-pool";
import { compareKeyTable, withKey } from "./support/key-table.ts";
import { blocksOf, sectionOf } from "./support/readme.ts";
import { assertCompiles } from "./support/snippets.ts";

/** What the text around a snippet takes for granted; a snippet that imports for itself stands alone. */
const preambles = {
  Events: `
    import type { Kysely } from "kysely";
    import { OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
    import type { EventBus, Inbox, Outbox } from "#shared/event-bus";
    interface Tables { orders: { id: string } }
    declare const db: Kysely<Tables>;
    declare const outbox: Outbox;
    declare const bus: EventBus;
    declare const inbox: Inbox<Tables>;
    declare const row: Tables["orders"];
    declare const id: string;
    declare const userId: string;
    declare const items: { bookId: string; quantity: number }[];
    declare function reserveIn(tx: unknown): (order: { id: string; items: unknown }) => Promise<void>;
  `,
  "The transport pool": `
    import { BookService } from "#gen/book/v1/book_pb.ts";
    import type { DiscoveryConfig } from "#shared/discovery";
    import type { Logger } from "#shared/logging";
    import { createTransportPool, type GrpcClientsConfig } from "#shared/transport-pool";
    declare const config: { server: { name: string }; grpcClients: GrpcClientsConfig; discovery: DiscoveryConfig };
    declare const logger: Logger;
    declare const id: string;
  `,
};

for (const [heading, preamble] of Object.entries(preambles)) {
  test(`each TypeScript snippet of "${heading}" compiles`, async (t) => {
    assert.ok((await assertCompiles(t, sectionOf(heading), preamble)) >= 2);
  });
}

test("each YAML snippet of the pool is a configuration that loads", () => {
  const snippets = blocksOf(sectionOf("The transport pool")).filter(({ language }) => language === "yaml");
  assert.ok(snippets.length >= 2);
  for (const { text } of snippets) {
    const document = parse(text.replace(/\$\{\w+:-(.*?)\}/g, "$1")) as Record<string, unknown>;
    grpcClientsSection.parse(document["grpc_clients"]);
    discoverySection.parse(document["discovery"]);
    registrationSection.optional().parse(document["registration"]);
  }
});

test("the table of policies has the keys and the defaults of the schema", () => {
  const table = sectionOf("The transport pool").split("| Key | Default | Rule |")[1]?.split("\n\n")[0] ?? "";
  // Sections that are not there by default are, so that their own defaults can be seen.
  const optional = { retry: { max: 1 }, hedge: {}, tls: {}, health_check: {} };
  const { keys, compared } = compareKeyTable({
    table,
    load: (service) => grpcClientsSection.parse(clientsOf(service)),
    isKnown(service, path) {
      const { error } = grpcClientsSection.safeParse(clientsOf(withKey(structuredClone(service), path, null)));
      return !error?.issues.some(({ code }) => code === "unrecognized_keys");
    },
    baseOf: ([section]) => {
      const name = section as keyof typeof optional;
      return name in optional ? { [name]: optional[name] } : {};
    },
  });
  assert.ok(keys.length > 40, String(keys.length));
  assert.ok(compared > 30, String(compared));
});

function clientsOf(service: object): object {
  return { services: [{ name: "book-service", address: "localhost:9002", ...service }] };
}
