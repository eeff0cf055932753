// `node --import ./test/support/connect-2.3.ts …`: the process uses Connect 2.3, whichever module imports Connect.

import { registerHooks } from "node:module";

registerHooks({
  resolve: (specifier, context, nextResolve) =>
    nextResolve(specifier.replace(/^@connectrpc\/(connect(?:-node)?)(?=\/|$)/, "$1-2.3"), context),
});
