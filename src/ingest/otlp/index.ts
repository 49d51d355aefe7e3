export { createOtlpHttpServer, OTLP_HTTP_LIMITS, type OtlpHttpLimits, type OtlpHttpServer } from './http.ts'
export { createOtlpReceiver, type OtlpCounters, type OtlpReceiver, type OtlpReceiverOptions } from './receiver.ts'
