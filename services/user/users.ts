import { v7 as uuid } from "uuid";
import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";

export interface User {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** The reasons of this domain's errors: user.v1.UserErrorReason. */
export type UserErrorReason = "USER_NOT_FOUND" | "EMAIL_TAKEN" | "REQUEST_ID_REUSED";

export interface UserRepository {
  /**
   * Stores the user. When `requestId` has stored one before, answers that one instead.
   *
   * @throws DomainError EMAIL_TAKEN
   */
  create(user: User, requestId: string | undefined): Promise<User>;
  find(id: string): Promise<User | undefined>;
  /** Oldest first. @throws DomainError PAGE_TOKEN_INVALID */
  list(page: { size: number; token: string }): Promise<UserPage>;
}

export interface UserPage {
  readonly users: readonly User[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

/** A sentence that recommends a book to the user, or undefined when no book suits. Rejects when it cannot be had. */
export type Recommend = (userId: string) => Promise<string | undefined>;

export interface Users {
  sayHello(name: string): Promise<string>;
  create(user: { username: string; email: string; requestId?: string }): Promise<User>;
  get(id: string): Promise<User>;
  list(page: { size: number; token: string }): Promise<UserPage>;
}

export interface UsersOptions {
  readonly repository: UserRepository;
  /** Undefined when there is no book-service to ask. */
  readonly recommend: Recommend | undefined;
  readonly logger: Logger;
}

export function createUsers({ repository, recommend, logger }: UsersOptions): Users {
  /** A greeting goes out whatever becomes of the recommendation. */
  async function recommendation(name: string): Promise<string> {
    if (recommend === undefined) return "Book service not available";
    try {
      return (await recommend(name)) ?? "No recommendation";
    } catch (err) {
      logger.warn({ error: String(err) }, "greeting without a recommendation");
      return "No recommendation";
    }
  }

  return {
    async sayHello(name) {
      return `Hello ${name}! ${await recommendation(name)}`;
    },

    async create({ username, email, requestId }) {
      const now = new Date();
      const user = await repository.create({ id: uuid(), username, email, createdAt: now, updatedAt: now }, requestId);
      if (user.username !== username || user.email !== email) {
        throw new DomainError(
          "already_exists",
          "REQUEST_ID_REUSED" satisfies UserErrorReason,
          "this request_id created a user from other fields",
          { metadata: { request_id: requestId ?? "" } },
        );
      }
      return user;
    },

    async get(id) {
      const user = await repository.find(id);
      if (user === undefined) {
        throw new DomainError("not_found", "USER_NOT_FOUND" satisfies UserErrorReason, "there is no such user", {
          metadata: { user_id: id },
        });
      }
      return user;
    },

    list: (page) => repository.list(page),
  };
}
