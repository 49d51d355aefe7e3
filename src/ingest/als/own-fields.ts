/**
 * Fields that our own receivers write into an access log entry, for what other protocols say and Envoy's message has no
 * field for. One message, as field 19000 of both entry messages: numbers from 19000 to 19999 are reserved by protobuf,
 * so no version of Envoy can give them a meaning. https://protobuf.dev/programming-guides/proto3/#assigning
 *
 *     message OwnFields {
 *       optional uint32 grpc_status = 1;    // where it came neither as header nor as trailer
 *       uint32 flag_bits = 2;               // flags that have a bit here and no field in ResponseFlags: DO, UDO
 *       string flags_text = 3;              // other flags, joined with commas
 *       string listener = 4;
 *       string path_template = 5;
 *       Any source = 6;                     // what the sender itself says of the two ends, see `SAID_TYPE`
 *       Any destination = 7;
 *       uint32 answered = 8;                // 1: the upstream answered, though no point says when; 2: the sender cannot say
 *     }
 */
export const OWN_FIELDS = 19_000

/**
 * Type of `source` and `destination`: a `google.protobuf.Struct` in the form of Istio's peers, with `reporter` as one
 * more key. What it says goes before everything that is worked out.
 */
export const SAID_TYPE = 'type.googleapis.com/sidecast.Said'
