export { type Broker, openBroker } from "./broker.ts";
export type { Catalogue, CatalogueEvent, CatalogueField, CataloguePackage, CatalogueType } from "./catalogue.ts";
export { type CommandResult, runEventsCommand } from "./command.ts";
export type { DeadLetter } from "./dead-letter.ts";
export {
  type DeadLetterList,
  type DeadLettersMoved,
  type DeadLettersOptions,
  dropDeadLetters,
  listDeadLetters,
  redriveDeadLetters,
  showDeadLetter,
} from "./dead-letters.ts";
export type { EventsService, EventsSetup } from "./setup.ts";
export type { WholeDeadLetter } from "./whole-dead-letter.ts";
