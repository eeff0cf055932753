import assert from "node:assert/strict";
import { test } from "node:test";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { grpcClientsSection } from "../index.ts";
import { createMethodPolicies } from "./method-policies.ts";

const { createBook, getBook } = BookService.method;

function policiesOf(service: object) {
  const config = grpcClientsSection.parse({
    services: [{ name: "book-service", address: "localhost:9002", ...service }],
  });
  return createMethodPolicies(config.services[0]!);
}

test("a method with side effects is never hedged, whoever calls it and whatever its configuration says", () => {
  const retry = { max: 2 };
  const methods = {
    "book.v1.BookService/CreateBook": { hedge: { max: 1 } },
    "book.v1.BookService/GetBook": { hedge: { max: 1 } },
  };
  const policies = policiesOf({ retry, methods });
  assert.equal(policies.of(createBook).hedge, undefined);
  assert.equal(policies.of(createBook).retry?.max, 2);
  assert.equal(policies.of(getBook).hedge?.max, 1);
  assert.equal(policiesOf({ hedge: { max: 1 } }).of(createBook).hedge, undefined);
});

test("a breaker that is turned off, by the service or by the method, is none", () => {
  assert.equal(policiesOf({ breaker: { enabled: false } }).of(getBook).breaker, undefined);
  const methods = { "book.v1.BookService/GetBook": { breaker: { enabled: false } } };
  assert.equal(policiesOf({ methods }).of(getBook).breaker, undefined);
  assert.equal(policiesOf({ methods }).of(createBook).breaker?.enabled, true);
});
