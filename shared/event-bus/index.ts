export { rabbitmqSection } from "./config.ts";
