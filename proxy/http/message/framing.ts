// How a body is delimited, as both sides of an exchange say it to each other (RFC 9112 §6.3).

/** No body at all; by Content-Length; of unknown length (chunked, or until close). */
export const bodyNone = 0, bodyLength = 1, bodyUnknown = 2;

/** Why an upstream try ended without a whole answer. */
export type FailureKind = 'connect' | 'connectTimeout' | 'reset' | 'timeout' | 'invalid' | 'truncated' | 'full' | 'status';
