import assert from "node:assert/strict";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { envelope } from "../unary-differential/messages.ts";
import { order } from "../stream-differential/orders.ts";
import { startPool, until, within } from "../test-support.ts";
