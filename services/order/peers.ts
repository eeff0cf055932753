import { type BookErrorReason, BookService } from "#gen/book/v1/book_pb.ts";
import { type UserErrorReason, UserService } from "#gen/user/v1/user_pb.ts";
import { fromConnectError } from "#shared/errors";
import type { TransportPool } from "#shared/transport-pool";
import type { Peers } from "./orders.ts";

const USER_SERVICE = "user-service";
const BOOK_SERVICE = "book-service";

/** @throws RangeError when one of the two is not configured */
export function peersOf(pool: TransportPool): Peers {
  const users = pool.client(USER_SERVICE, UserService);
  const books = pool.client(BOOK_SERVICE, BookService);
  return {
    async findUser(id) {
      try {
        return (await users.getUser({ id })).user;
      } catch (error) {
        if (isRefusal(error, "USER_NOT_FOUND" satisfies keyof typeof UserErrorReason)) return undefined;
        throw error;
      }
    },

    async findBook(id) {
      try {
        return (await books.getBook({ id })).book;
      } catch (error) {
        if (isRefusal(error, "BOOK_NOT_FOUND" satisfies keyof typeof BookErrorReason)) return undefined;
        throw error;
      }
    },
  };
}

/** By reason and not by code: a proxy between may say NOT_FOUND too. */
function isRefusal(error: unknown, reason: string): boolean {
  return fromConnectError(error)?.reason === reason;
}
