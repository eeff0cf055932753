/** The longest timeout that `grpc-timeout` can carry in milliseconds: eight digits, 27.7 hours. */
export const LONGEST_TIMEOUT_MS = 99_999_999;
