import { create } from "@bufbuild/protobuf";
import { OrderStatus, type WatchOrderResponse, WatchOrderResponseSchema } from "#gen/order/v1/order_pb.ts";

export const SMALL_NAME = "Ada";
/** Who is greeted at length. */
export const LARGE_NAME = "Everybody";
export const MESSAGES_A_STREAM = 100;

const LARGE_BYTES = 10 * 1024;
const large = Array.from({ length: LARGE_BYTES / 8 }, (_, index) => `${(index * 7919) % 1_000_003}`.padStart(8)).join(
  "",
);

/** What all servers answer. */
export function greet(name: string): string {
  return name === LARGE_NAME ? large : `Hello ${name}!`;
}

/** What all servers stream, again and again. */
export const orderMessage: WatchOrderResponse = create(WatchOrderResponseSchema, {
  order: { id: "o-1", userId: "u-1", totalCents: 1_999n, status: OrderStatus.PENDING },
});
