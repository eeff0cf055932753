import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";

export interface BookshopClients {
  readonly users: Client<typeof UserService>;
  readonly books: Client<typeof BookService>;
  readonly orders: Client<typeof OrderService>;
}

/** The ways in that a gateway has, by stock clients. */
export const protocols: Readonly<Record<string, (baseUrl: string) => Transport>> = {
  gRPC: (baseUrl) => createGrpcTransport({ baseUrl }),
  "Connect, JSON over HTTP/1.1": (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  "gRPC-Web over HTTP/1.1": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
};

export function clientsOn(transport: Transport): BookshopClients {
  return {
    users: createClient(UserService, transport),
    books: createClient(BookService, transport),
    orders: createClient(OrderService, transport),
  };
}

/** Over gRPC, where the protocol does not matter. */
export function clientsAt(baseUrl: string): BookshopClients {
  return clientsOn(createGrpcTransport({ baseUrl }));
}
