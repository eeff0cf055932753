import {
  connect,
  constants,
  createServer,
  type Http2Stream,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { WatchOrderRequestSchema, WatchOrderResponseSchema } from "#gen/order/v1/order_pb.ts";
import { HelloRequestSchema, HelloResponseSchema } from "#gen/user/v1/user_pb.ts";
import { greet, MESSAGES_A_STREAM, orderMessage } from "./answers.ts";
import { createUnframer, frame } from "./framing.ts";
import { callFields, TIMEOUT_MS } from "./full-call.ts";
import type { Peer } from "./peer.ts";

const SAY_HELLO = "/user.v1.UserService/SayHello";
const WATCH_ORDER = "/order.v1.OrderService/WatchOrder";
const RESPONSE_HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };

/** The least that can be done with `node:http2`: no deadline, no cancellation, no error that says much. */
export const raw: Peer = peerWith({ isFull: false });
/** With a deadline on both sides. */
export const rawFull: Peer = peerWith({ isFull: true });

function peerWith({ isFull }: { readonly isFull: boolean }): Peer {
  return {
    async startServer() {
      const server = createServer();
      server.on("stream", (stream, headers) => {
        const path = headers[":path"];
        const timeout = headers["grpc-timeout"];
        if (timeout !== undefined) endAfter(stream, Number.parseInt(String(timeout), 10));
        const unframe = createUnframer((message) => {
          if (path === SAY_HELLO) answerHello(stream, message);
          else answerWatch(stream, message);
        });
        stream.on("data", unframe);
      });
      const { promise, resolve } = Promise.withResolvers<void>();
      server.listen(0, "127.0.0.1", resolve);
      await promise;
      return (server.address() as AddressInfo).port;
    },

    createClient(port) {
      const session = connect(`http://127.0.0.1:${port}`);
      const call = (path: string, message: Uint8Array, onMessage: (message: Uint8Array) => void): Promise<void> => {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        const stream = session.request({
          ":method": "POST",
          ":path": path,
          "content-type": "application/grpc+proto",
          te: "trailers",
          ...(isFull ? { "grpc-timeout": `${TIMEOUT_MS}m`, ...callFields() } : {}),
        });
        if (isFull) endAfter(stream, TIMEOUT_MS);
        let status: string | string[] | undefined;
        stream.on("data", createUnframer(onMessage));
        stream.on("trailers", (trailers: IncomingHttpHeaders) => {
          status = trailers["grpc-status"];
        });
        stream.on("end", () => (status === "0" ? resolve() : reject(new Error(`${path}: grpc-status ${status}`))));
        stream.on("error", reject);
        stream.end(frame(message));
        return promise;
      };
      return {
        async sayHello(name) {
          let text = "";
          await call(SAY_HELLO, toBinary(HelloRequestSchema, create(HelloRequestSchema, { name })), (message) => {
            text = fromBinary(HelloResponseSchema, message).message;
          });
          return text;
        },
        async watchOrder(id) {
          let messages = 0;
          await call(
            WATCH_ORDER,
            toBinary(WatchOrderRequestSchema, create(WatchOrderRequestSchema, { id })),
            (message) => {
              fromBinary(WatchOrderResponseSchema, message);
              messages++;
            },
          );
          return messages;
        },
      };
    },
  };
}

function endAfter(stream: Http2Stream, ms: number): void {
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), ms);
  stream.on("close", () => clearTimeout(timer));
}

function answerHello(stream: ServerHttp2Stream, message: Uint8Array): void {
  const { name } = fromBinary(HelloRequestSchema, message);
  respond(stream);
  stream.end(frame(toBinary(HelloResponseSchema, create(HelloResponseSchema, { message: greet(name) }))));
}

function answerWatch(stream: ServerHttp2Stream, message: Uint8Array): void {
  fromBinary(WatchOrderRequestSchema, message);
  respond(stream);
  for (let sent = 0; sent < MESSAGES_A_STREAM; sent++) {
    stream.write(frame(toBinary(WatchOrderResponseSchema, orderMessage)));
  }
  stream.end();
}

function respond(stream: ServerHttp2Stream): void {
  stream.respond(RESPONSE_HEADERS, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
}
