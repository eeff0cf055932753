// `npm run events -- …`: what an operator asks of the events, and does about dead letters.

import { join } from "node:path";
import process from "node:process";
import { file_book_v1_book_events } from "#gen/book/v1/book_events_pb.ts";
import { file_order_v1_order_events } from "#gen/order/v1/order_events_pb.ts";
import { file_user_v1_user_events } from "#gen/user/v1/user_events_pb.ts";
import { runEventsCommand } from "#shared/events-cli";
import { loadBookConfig } from "./book/config.ts";
import { bookServiceConsumes } from "./book/events.ts";
import { schema as bookSchema } from "./book/migrations.ts";
import { loadOrderConfig } from "./order/config.ts";
import { orderServiceConsumes } from "./order/events.ts";
import { schema as orderSchema } from "./order/migrations.ts";
import { loadUserConfig } from "./user/config.ts";
import { userServiceConsumes } from "./user/events.ts";
import { schema as userSchema } from "./user/migrations.ts";

const { code, stdout, stderr } = await runEventsCommand(process.argv.slice(2), process.env, {
  services: {
    user: {
      rabbitmq: (env) => loadUserConfig(env).rabbitmq,
      handles: userServiceConsumes,
      database: (env) => ({ config: loadUserConfig(env).database, schema: userSchema }),
    },
    book: {
      rabbitmq: (env) => loadBookConfig(env).rabbitmq,
      handles: bookServiceConsumes,
      database: (env) => ({ config: loadBookConfig(env).database, schema: bookSchema }),
    },
    order: {
      rabbitmq: (env) => loadOrderConfig(env).rabbitmq,
      handles: orderServiceConsumes,
      database: (env) => ({ config: loadOrderConfig(env).database, schema: orderSchema }),
    },
  },
  files: [file_user_v1_user_events, file_book_v1_book_events, file_order_v1_order_events],
  protoFolder: join(import.meta.dirname, ".."),
});
// The reader, such as head, may have closed the pipe.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});
process.stderr.write(stderr);
process.stdout.write(stdout);
process.exitCode = code;
