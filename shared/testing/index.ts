export { closeAfter } from "./close-after.ts";
export {
  type DatabaseForTestOptions,
  databaseConfig,
  databaseForTest,
  embeddedForTest,
  postgresForTest,
} from "./database.ts";
export { type Dialect, dialects, errorOf, type WireError } from "./dialects.ts";
export { type DnsmasqForTest, type DnsRecords, dnsmasqForTest, type SrvRecord } from "./dnsmasq.ts";
export { EchoService } from "./echo-service.ts";
export { type EtcdForTest, etcdForTest } from "./etcd.ts";
export { type Fault, type FaultTransportOptions, faultTransport } from "./fault-transport.ts";
export { collectGarbage } from "./garbage.ts";
export { type PgbouncerForTest, type PgbouncerOptions, pgbouncerForTest } from "./pgbouncer.ts";
export { type RabbitmqForTest, rabbitmqForTest } from "./rabbitmq.ts";
export { type LogLine, type RecordedLog, recordLog } from "./recorded-log.ts";
export { seededRandom } from "./seeded-random.ts";
export { echo, type ServerYaml, serverConfig, startServer, type TestServer, type TestServerOptions } from "./server.ts";
export { clientAt, clientOf, deadUrl, never, refusalOf, serverDeadline, silent, startPeer } from "./services.ts";
export { type Direction, startTcpProxy, type TcpProxy, type TcpProxyTarget } from "./tcp-proxy.ts";
export { until, within } from "./waiting.ts";
export {
  type Answer,
  answerOf,
  callHttp1,
  connectHttp2,
  connectTcp,
  type Envelope,
  envelope,
  frame,
  frameTypes,
  type Http2Client,
  headerBlock,
  http2Preface,
  readEnvelopes,
  type TcpClient,
} from "./wire.ts";
