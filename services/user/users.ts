import { v7 as uuid } from "uuid";
import { DomainError } from "#shared/errors";
import { createLogThrottle, type Logger } from "#shared/logging";

export interface User {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  /** How often this username or id was greeted since there is a user with it, as far as that is counted. */
  readonly greetings: bigint;
}

export type NewUser = Omit<User, "greetings">;

/** What was said to whom; the name need not be a user's. */
export interface Greeting {
  readonly name: string;
  readonly message: string;
}

/** The reasons of this domain's errors: user.v1.UserErrorReason. */
export type UserErrorReason = "USER_NOT_FOUND" | "EMAIL_TAKEN" | "REQUEST_ID_REUSED";

export interface UserRepository {
  /**
   * Stores the user. When `requestId` has stored one before, answers that one instead.
   *
   * @throws DomainError EMAIL_TAKEN
   */
  create(user: NewUser, requestId: string | undefined): Promise<User>;
  find(id: string): Promise<User | undefined>;
  /** Oldest first. @throws DomainError PAGE_TOKEN_INVALID */
  list(page: { size: number; token: string }): Promise<UserPage>;
  /** Adds one to the greetings of the name, if it is the username or the id of a user. False when it is not. */
  countGreeting(name: string): Promise<boolean>;
}

export interface UserPage {
  readonly users: readonly User[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

/** A sentence that recommends a book to the user, or undefined when no book suits. Rejects when it cannot be had. */
export type Recommend = (userId: string) => Promise<string | undefined>;

/** Tells others of a greeting. Rejects when that cannot be stored. */
export type Announce = (greeting: Greeting) => Promise<void>;

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
  readonly announce: Announce;
  readonly logger: Logger;
}

/**
 * Maximum number of announcements under way. Calls do not wait for them, so that nothing else would keep them from filling
 * the memory and the queue for connections to the database.
 */
const MAX_ANNOUNCEMENTS = 1_000;

export function createUsers({ repository, recommend, announce, logger }: UsersOptions): Users {
  let announcements = 0;
  const throttle = createLogThrottle(logger);

  /** A greeting goes out whatever becomes of the recommendation. */
  async function recommendation(name: string): Promise<string> {
    if (recommend === undefined) return "Book service not available";
    try {
      return (await recommend(name)) ?? "No recommendation";
    } catch (err) {
      throttle.warn("no recommendation", { error: String(err) }, "greeting without a recommendation");
      return "No recommendation";
    }
  }

  /** A greeting is not held up by its announcement. */
  async function tell(greeting: Greeting): Promise<void> {
    if (announcements >= MAX_ANNOUNCEMENTS) {
      throttle.warn("too many", { waiting: announcements }, "greeting not announced");
      return;
    }
    announcements++;
    try {
      await announce(greeting);
    } catch (err) {
      throttle.warn("failed", { error: String(err) }, "greeting not announced");
    } finally {
      announcements--;
    }
  }

  return {
    async sayHello(name) {
      const message = `Hello ${name}! ${await recommendation(name)}`;
      void tell({ name, message });
      return message;
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
