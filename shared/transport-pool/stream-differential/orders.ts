import { create, toBinary } from "@bufbuild/protobuf";
import { WatchOrderResponseSchema } from "#gen/order/v1/order_pb.ts";
import { envelope } from "../unary-differential/messages.ts";

export function order(id: string): Uint8Array {
  return toBinary(WatchOrderResponseSchema, create(WatchOrderResponseSchema, { order: { id } }));
}

/** So many messages, in their frames. */
export function orders(count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => envelope(order(`o-${index}`))));
}

export const largeOrder = order("x".repeat(900));
/** Compresses to little, and is more than may be read. */
export const hugeOrder = order("x".repeat(5_000));
