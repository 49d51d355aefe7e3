import protobuf from 'protobufjs'

/** Writes `io.prometheus.client.MetricFamily` messages, with presence as in proto2; github.com/prometheus/client_model. */
const TYPE = protobuf
  .parse(
    `
  syntax = "proto2";
  package io.prometheus.client;
  message Timestamp { optional int64 seconds = 1; optional int32 nanos = 2; }
  message LabelPair { optional string name = 1; optional string value = 2; }
  enum MetricType { COUNTER = 0; GAUGE = 1; SUMMARY = 2; UNTYPED = 3; HISTOGRAM = 4; GAUGE_HISTOGRAM = 5; }
  message Gauge { optional double value = 1; }
  message Untyped { optional double value = 1; }
  message Counter { optional double value = 1; optional Exemplar exemplar = 2; optional Timestamp start_timestamp = 3; }
  message Quantile { optional double quantile = 1; optional double value = 2; }
  message Summary {
    optional uint64 sample_count = 1; optional double sample_sum = 2; repeated Quantile quantile = 3;
    optional Timestamp start_timestamp = 4;
  }
  message Histogram {
    optional uint64 sample_count = 1; optional double sample_sum = 2; repeated Bucket bucket = 3;
    optional double sample_count_float = 4; optional sint32 schema = 5; optional double zero_threshold = 6;
    optional uint64 zero_count = 7; optional double zero_count_float = 8; repeated BucketSpan negative_span = 9;
    repeated sint64 negative_delta = 10; repeated double negative_count = 11; repeated BucketSpan positive_span = 12;
    repeated sint64 positive_delta = 13; repeated double positive_count = 14; optional Timestamp start_timestamp = 15;
    repeated Exemplar exemplars = 16;
  }
  message Bucket {
    optional uint64 cumulative_count = 1; optional double upper_bound = 2; optional Exemplar exemplar = 3;
    optional double cumulative_count_float = 4;
  }
  message BucketSpan { optional sint32 offset = 1; optional uint32 length = 2; }
  message Exemplar { repeated LabelPair label = 1; optional double value = 2; optional Timestamp timestamp = 3; }
  message Metric {
    repeated LabelPair label = 1; optional Gauge gauge = 2; optional Counter counter = 3; optional Summary summary = 4;
    optional Untyped untyped = 5; optional int64 timestamp_ms = 6; optional Histogram histogram = 7;
  }
  message MetricFamily {
    optional string name = 1; optional string help = 2; optional MetricType type = 3; repeated Metric metric = 4;
    optional string unit = 5;
  }
`,
    { keepCase: true },
  )
  .root.lookupType('io.prometheus.client.MetricFamily')

/** Length and message, for each family. `type` by name. */
export function encodeFamilies(...families: readonly Readonly<Record<string, unknown>>[]): Buffer {
  return Buffer.concat(families.map((family) => TYPE.encodeDelimited(TYPE.fromObject(family)).finish()))
}

export function labelsOf(labels: Readonly<Record<string, string>>): { name: string; value: string }[] {
  return Object.entries(labels).map(([name, value]) => ({ name, value }))
}
