import { v7 as uuid } from "uuid";
import { DomainError } from "#shared/errors";
import type { OrderChanges } from "./changes.ts";
import { watch } from "./watch.ts";

export interface Order {
  readonly id: string;
  readonly userId: string;
  /** As they were ordered. */
  readonly items: readonly OrderItem[];
  readonly totalCents: bigint;
  readonly status: OrderStatus;
  /** Of a CANCELLED one. */
  readonly cancelReason?: CancelReason;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Title and price are those of the moment of the order. */
export interface OrderItem {
  readonly bookId: string;
  readonly title: string;
  readonly quantity: number;
  readonly unitPriceCents: bigint;
}

export type OrderStatus = "PENDING" | "CONFIRMED" | "CANCELLED";

/** Why an order was cancelled: order.v1.OrderCancelReason. */
export type CancelReason = "OUT_OF_STOCK" | "TIMED_OUT";

/** How a PENDING order ends. */
export type Settlement =
  | { readonly status: "CONFIRMED" }
  | { readonly status: "CANCELLED"; readonly cancelReason: CancelReason };

/** The reasons of this domain's errors: order.v1.OrderErrorReason. */
export type OrderErrorReason =
  | "ORDER_NOT_FOUND"
  | "USER_NOT_FOUND"
  | "BOOK_NOT_FOUND"
  | "OUT_OF_STOCK"
  | "REQUEST_ID_REUSED";

export interface OrderRepository {
  /** Stores the order with its items. When `requestId` has stored one before, answers that one instead. */
  create(order: Order, requestId: string): Promise<Order>;
  find(id: string): Promise<Order | undefined>;
  findByRequestId(requestId: string): Promise<Order | undefined>;
  /** Ends a PENDING order. False when there is none that is: one that has ended stays as it is. */
  settle(id: string, settlement: Settlement): Promise<boolean>;
  /** Publishes again that a CANCELLED order is. False when there is none that is. */
  announceCancelled(id: string): Promise<boolean>;
  /** Newest first, of everybody or of one user. @throws DomainError PAGE_TOKEN_INVALID */
  list(page: OrderPageRequest): Promise<OrderPage>;
}

export interface OrderPageRequest {
  readonly size: number;
  readonly token: string;
  readonly userId?: string;
}

export interface OrderPage {
  readonly orders: readonly Order[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

/**
 * What an order must know of users and books, by their ids. Undefined when there is none. Both reject when they cannot
 * be asked.
 */
export interface Peers {
  findUser(id: string): Promise<{ readonly id: string } | undefined>;
  findBook(id: string): Promise<OfferedBook | undefined>;
}

export interface OfferedBook {
  readonly id: string;
  readonly title: string;
  readonly priceCents: bigint;
  readonly stock: number;
}

export interface NewOrder {
  readonly userId: string;
  /** Each book once. */
  readonly items: readonly { readonly bookId: string; readonly quantity: number }[];
  readonly requestId: string;
}

export interface Orders {
  create(order: NewOrder): Promise<Order>;
  get(id: string): Promise<Order>;
  list(page: OrderPageRequest): Promise<OrderPage>;
  /** The order as it is, then after each change of status, until that is final. Throws the signal's reason. */
  watch(id: string, signal: AbortSignal): AsyncIterable<Order>;
}

export interface OrdersOptions {
  readonly repository: OrderRepository;
  readonly peers: Peers;
  /** What is told of a change may get lost: a watch looks by itself too. */
  readonly changes: Pick<OrderChanges, "listen">;
  readonly watchIntervalMs: number;
}

export function createOrders({ repository, peers, changes, watchIntervalMs }: OrdersOptions): Orders {
  async function get(id: string): Promise<Order> {
    const order = await repository.find(id);
    if (order !== undefined) return order;
    throw refusal("not_found", "ORDER_NOT_FOUND", "there is no such order", { order_id: id });
  }

  /** The order that would be, at today's prices. */
  async function quote({ userId, items }: NewOrder): Promise<Order> {
    const [user, ...books] = await Promise.all([
      peers.findUser(userId),
      ...items.map(({ bookId }) => peers.findBook(bookId)),
    ]);
    if (user === undefined) throw refusal("not_found", "USER_NOT_FOUND", "there is no such user", { user_id: userId });
    const lines = items.map(({ bookId, quantity }, index) => lineOf(books[index], bookId, quantity));
    const bookIds = new Set(lines.map(({ bookId }) => bookId));
    if (bookIds.size < lines.length) throw new DomainError("invalid_argument", "VALIDATION_FAILED", "each book once");
    const now = new Date();
    return {
      id: uuid(),
      userId: user.id,
      items: lines,
      totalCents: lines.reduce((sum, { unitPriceCents, quantity }) => sum + unitPriceCents * BigInt(quantity), 0n),
      status: "PENDING",
      createdAt: now,
      updatedAt: now,
    };
  }

  return {
    async create(request) {
      const { requestId } = request;
      // A repeat has its answer, whatever users, books and prices are by now.
      const first = await repository.findByRequestId(requestId);
      const order = first ?? (await repository.create(await quote(request), requestId));
      if (isOrderOf(order, request)) return order;
      throw refusal("already_exists", "REQUEST_ID_REUSED", "this request_id created an order from other fields", {
        request_id: requestId,
      });
    },

    get,
    list: (page) => repository.list(page),
    watch: (id, signal) =>
      watch({
        read: () => get(id),
        listen: (listener) => changes.listen(id, listener),
        intervalMs: watchIntervalMs,
        signal,
      }),
  };
}

function lineOf(book: OfferedBook | undefined, bookId: string, quantity: number): OrderItem {
  if (book === undefined) throw refusal("not_found", "BOOK_NOT_FOUND", "there is no such book", { book_id: bookId });
  if (book.stock < quantity) {
    throw refusal("failed_precondition", "OUT_OF_STOCK", "fewer are left than ordered", {
      book_id: bookId,
      requested: String(quantity),
      available: String(book.stock),
    });
  }
  return { bookId: book.id, title: book.title, quantity, unitPriceCents: book.priceCents };
}

/** Whether this is what was asked for, in whatever order the items stand. */
function isOrderOf(order: Order, { userId, items }: NewOrder): boolean {
  return isSameId(order.userId, userId) && contents(order.items) === contents(items);
}

function contents(items: NewOrder["items"]): string {
  return items
    .map(({ bookId, quantity }) => `${quantity} ${bookId.toLowerCase()}`)
    .sort()
    .join();
}

/** Ids are UUIDs, and those are the same in either case. */
function isSameId(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function refusal(
  code: "not_found" | "already_exists" | "failed_precondition",
  reason: OrderErrorReason,
  message: string,
  metadata: Readonly<Record<string, string>>,
): DomainError {
  return new DomainError(code, reason, message, { metadata });
}
