import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import grpc from "@grpc/grpc-js";
import {
  type WatchOrderRequest,
  WatchOrderRequestSchema,
  type WatchOrderResponse,
  WatchOrderResponseSchema,
} from "#gen/order/v1/order_pb.ts";
import {
  type HelloRequest,
  HelloRequestSchema,
  type HelloResponse,
  HelloResponseSchema,
} from "#gen/user/v1/user_pb.ts";
import { greet, MESSAGES_A_STREAM, orderMessage } from "./answers.ts";
import { callFields, TIMEOUT_MS } from "./full-call.ts";
import type { Peer } from "./peer.ts";

const sayHello = methodOf("/user.v1.UserService/SayHello", HelloRequestSchema, HelloResponseSchema, false);
const watchOrder = methodOf(
  "/order.v1.OrderService/WatchOrder",
  WatchOrderRequestSchema,
  WatchOrderResponseSchema,
  true,
);

/** As its users have it: callbacks and events, no interceptor, no deadline. */
export const grpcJs: Peer = peerWith({ isFull: false });
export const grpcJsFull: Peer = peerWith({ isFull: true });

function peerWith({ isFull }: { readonly isFull: boolean }): Peer {
  return {
    async startServer() {
      const server = new grpc.Server();
      server.addService(
        { sayHello, watchOrder },
        {
          sayHello(
            call: grpc.ServerUnaryCall<HelloRequest, HelloResponse>,
            callback: grpc.sendUnaryData<HelloResponse>,
          ) {
            callback(null, create(HelloResponseSchema, { message: greet(call.request.name) }));
          },
          watchOrder(call: grpc.ServerWritableStream<WatchOrderRequest, WatchOrderResponse>) {
            for (let sent = 0; sent < MESSAGES_A_STREAM; sent++) call.write(orderMessage);
            call.end();
          },
        },
      );
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
      return await promise;
    },

    createClient(port) {
      const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
      return {
        sayHello(name) {
          const { promise, resolve, reject } = Promise.withResolvers<string>();
          const { path, requestSerialize, responseDeserialize } = sayHello;
          const request = create(HelloRequestSchema, { name });
          client.makeUnaryRequest(
            path,
            requestSerialize,
            responseDeserialize,
            request,
            ...toCall(isFull),
            (error, response) => (response === undefined ? reject(error) : resolve(response.message)),
          );
          return promise;
        },
        watchOrder(id) {
          const { promise, resolve, reject } = Promise.withResolvers<number>();
          const { path, requestSerialize, responseDeserialize } = watchOrder;
          const request = create(WatchOrderRequestSchema, { id });
          const call = client.makeServerStreamRequest(
            path,
            requestSerialize,
            responseDeserialize,
            request,
            ...toCall(isFull),
          );
          let messages = 0;
          call.on("data", () => messages++);
          call.on("end", () => resolve(messages));
          call.on("error", reject);
          return promise;
        },
      };
    },
  };
}

/** Deadline and metadata of one call. */
function toCall(isFull: boolean): [grpc.Metadata, grpc.CallOptions] {
  const metadata = new grpc.Metadata();
  if (!isFull) return [metadata, {}];
  for (const [name, value] of Object.entries(callFields())) metadata.set(name, value);
  return [metadata, { deadline: Date.now() + TIMEOUT_MS }];
}

function methodOf<Request extends DescMessage, Response extends DescMessage>(
  path: string,
  request: Request,
  response: Response,
  responseStream: boolean,
): grpc.MethodDefinition<MessageShape<Request>, MessageShape<Response>> {
  return {
    path,
    requestStream: false,
    responseStream,
    requestSerialize: (message) => bufferOf(toBinary(request, message)),
    requestDeserialize: (bytes) => fromBinary(request, bytes),
    responseSerialize: (message) => bufferOf(toBinary(response, message)),
    responseDeserialize: (bytes) => fromBinary(response, bytes),
  };
}

/** The same bytes, not a copy. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
