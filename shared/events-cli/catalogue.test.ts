import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { file_book_v1_book_events } from "#gen/book/v1/book_events_pb.ts";
import { file_order_v1_order_events } from "#gen/order/v1/order_events_pb.ts";
import { file_user_v1_user_events } from "#gen/user/v1/user_events_pb.ts";
import { type Catalogue, type CatalogueEvent, catalogueOf } from "./catalogue.ts";
import { catalogueMarkdown } from "./catalogue-markdown.ts";
import { buildDescriptorSet } from "./descriptor-set.ts";

const repository = join(import.meta.dirname, "../..");
const files = [file_book_v1_book_events, file_order_v1_order_events, file_user_v1_user_events];

describe("the catalogue of this repository", () => {
  let catalogue: Catalogue;
  let events: readonly CatalogueEvent[];
  before(async () => {
    catalogue = catalogueOf(await buildDescriptorSet(repository), files);
    events = catalogue.packages.flatMap((one) => one.events);
  });

  test("has all events with their routing keys, by package", () => {
    assert.deepEqual(
      catalogue.packages.map(({ name, events: own }) => [name, own.map((one) => [one.name, one.routingKey])]),
      [
        [
          "book.v1",
          [
            ["book.v1.StockReserved", "book.stock.reserved"],
            ["book.v1.StockRejected", "book.stock.rejected"],
          ],
        ],
        [
          "order.v1",
          [
            ["order.v1.OrderPlaced", "order.placed"],
            ["order.v1.OrderConfirmed", "order.confirmed"],
            ["order.v1.OrderTimeoutElapsed", "order.timeout_elapsed"],
            ["order.v1.OrderCancelled", "order.cancelled"],
          ],
        ],
        [
          "user.v1",
          [
            ["user.v1.UserCreated", "user.created"],
            ["user.v1.UserGreeted", "user.greeted"],
          ],
        ],
      ],
    );
  });

  test("has for each a comment that says what has happened, and what it is ordered by", () => {
    for (const { name, description, orderedBy, fields } of events) {
      assert.notEqual(description, "", name);
      assert.doesNotMatch(description, /Ordered by/, name);
      if (orderedBy === null) assert.match(description, /has no ordering key/, name);
      else assert.ok(fields.map((field) => field.name).includes(orderedBy), `${name} is ordered by ${orderedBy}`);
    }
  });

  test("has the fields as the proto has them", () => {
    const placed = events.find(({ name }) => name === "order.v1.OrderPlaced");
    assert.deepEqual(placed?.fields, [
      { name: "order_id", type: "string", description: "A UUID, version 7." },
      { name: "user_id", type: "string", description: "" },
      { name: "items", type: "repeated order.v1.PlacedItem", description: "Each book once." },
    ]);
  });

  test("has the messages and enums that fields are made of", () => {
    const types = catalogue.packages.find(({ name }) => name === "order.v1")?.types ?? [];
    assert.deepEqual(
      types.map(({ name, kind }) => [name, kind]),
      [
        ["order.v1.PlacedItem", "message"],
        ["order.v1.OrderCancelReason", "enum"],
      ],
    );
    assert.equal(types[0]?.description, "One line of an order.");
    assert.deepEqual(types[1]?.fields[1]?.type, "1");
  });

  test("has what the options say", () => {
    const options = Object.fromEntries(events.map((one) => [one.name, [one.mayBeUnrouted, one.jsonType]]));
    assert.deepEqual(options["order.v1.OrderConfirmed"], [true, null]);
    assert.deepEqual(options["user.v1.UserGreeted"], [false, "hello"]);
  });

  test("is Markdown that names each event with its key", () => {
    const text = catalogueMarkdown(catalogue);
    for (const { name, routingKey, description } of events) {
      assert.ok(
        text.includes(`### ${name.split(".").at(-1)}\n\n${description}\n\n- Routing key: \`${routingKey}\``),
        name,
      );
    }
  });
});

describe("a table's cell", () => {
  test("holds a comment of several paragraphs, and one with a bar", () => {
    const description = "Either a | b.\n\nNever c.";
    const fields = [{ name: "f", type: "string", description }];
    const types = [{ name: "a.v1.T", kind: "message", description: "", fields }] as const;
    const text = catalogueMarkdown({ packages: [{ name: "a.v1", events: [], types }] });
    assert.ok(text.includes("| `f` | `string` | Either a \\| b.<br>Never c. |"));
  });
});

describe("the descriptor set", () => {
  test("fails with what buf says of protos that cannot be built", async () => {
    await assert.rejects(buildDescriptorSet(join(repository, "proto/order/v1")), { reason: "BUF_FAILED" });
  });

  test("says what is missing where buf is not installed", async () => {
    await assert.rejects(buildDescriptorSet("/"), { reason: "BUF_MISSING" });
  });
});
