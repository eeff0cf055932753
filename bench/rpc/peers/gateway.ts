import { createGatewayApp } from "../../../services/gateway/app.ts";
import { loadGatewayConfig } from "../../../services/gateway/config.ts";

/** The gateway with the configuration that it is shipped with, before one server that is both services. Its port. */
export async function startGateway(port: number): Promise<number> {
  const address = `127.0.0.1:${port}`;
  const config = loadGatewayConfig({
    SERVER_PORT: "0",
    USER_SERVICE_ADDRESS: address,
    BOOK_SERVICE_ADDRESS: address,
    ORDER_SERVICE_ADDRESS: address,
  });
  const app = createGatewayApp(config);
  await app.start();
  return Number(new URL(app.url).port);
}
