import com.fasterxml.jackson.databind.ObjectMapper;
import com.wavefront.api.agent.ValidationConfiguration;
import com.wavefront.data.Validation;
import com.wavefront.ingester.IngesterContext;
import com.wavefront.ingester.ReportHistogramDecoder;
import com.wavefront.ingester.ReportMetricDecoder;
import com.wavefront.ingester.SpanDecoder;
import com.wavefront.ingester.SpanLogsDecoder;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import wavefront.report.Annotation;
import wavefront.report.ReportHistogram;
import wavefront.report.ReportMetric;
import wavefront.report.Span;
import wavefront.report.SpanLogs;

/**
 * Wavefront's own decoders and validators. Each line of the input is two letters and a line of the protocol; each line of the
 * output is JSON: what was understood, or `error`.
 *
 *   m metric  h histogram  t span  l span logs    then    h limits of the hosted service  p those of a proxy alone
 *
 * Lines end at LF and nowhere else, as in a proxy.
 */
public class Parse {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final ReportMetricDecoder METRIC = new ReportMetricDecoder(() -> "unknown", List.of("fqdn"));
  private static final ReportHistogramDecoder HISTOGRAM = new ReportHistogramDecoder(() -> "unknown");
  private static final SpanDecoder SPAN = new SpanDecoder("unknown");
  private static final SpanLogsDecoder SPAN_LOGS = new SpanLogsDecoder();
  private static final ValidationConfiguration PROXY = new ValidationConfiguration();
  private static final ValidationConfiguration HOSTED = new ValidationConfiguration()
      .setMetricLengthLimit(256).setHistogramLengthLimit(256).setHostLengthLimit(128)
      .setAnnotationsCountLimit(20).setAnnotationsKeyLengthLimit(64).setAnnotationsValueLengthLimit(255)
      .setSpanLengthLimit(128).setSpanAnnotationsCountLimit(50)
      .setSpanAnnotationsKeyLengthLimit(128).setSpanAnnotationsValueLengthLimit(128);

  public static void main(String[] args) throws Exception {
    InputStream in = new BufferedInputStream(System.in, 1 << 16);
    OutputStream out = new BufferedOutputStream(System.out, 1 << 16);
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (int b; (b = in.read()) >= 0; ) {
      if (b != '\n') {
        line.write(b);
        continue;
      }
      out.write(JSON.writeValueAsBytes(answer(line.toString(StandardCharsets.UTF_8))));
      out.write('\n');
      line.reset();
      if (in.available() == 0) out.flush();
    }
    out.flush();
  }

  private static Map<String, Object> answer(String input) {
    Map<String, Object> answer = new LinkedHashMap<>();
    ValidationConfiguration limits = input.charAt(1) == 'h' ? HOSTED : PROXY;
    String line = input.substring(2);
    try {
      switch (input.charAt(0)) {
        case 'm': metric(line, limits, answer); break;
        case 'h': histogram(line, limits, answer); break;
        case 't': span(line, limits, answer); break;
        case 'l': spanLogs(line, answer); break;
        default: throw new IllegalArgumentException("kind " + input.charAt(0));
      }
    } catch (Exception e) {
      answer.clear();
      answer.put("error", String.valueOf(e.getMessage()));
      answer.put("type", e.getClass().getSimpleName());
    }
    return answer;
  }

  private static void metric(String line, ValidationConfiguration limits, Map<String, Object> answer) {
    List<ReportMetric> read = new ArrayList<>();
    METRIC.decode(line, read, "test", null);
    ReportMetric point = read.get(0);
    Validation.validateMetric(point, limits);
    answer.put("name", point.getMetric());
    // Of NaN, JSON has no number.
    answer.put("value", Double.isFinite(point.getValue()) ? point.getValue() : String.valueOf(point.getValue()));
    answer.put("timestampMs", point.getTimestamp());
    answer.put("source", point.getHost());
    answer.put("tags", pairs(point.getAnnotations()));
  }

  private static void histogram(String line, ValidationConfiguration limits, Map<String, Object> answer) {
    IngesterContext context = new IngesterContext.Builder()
        .throwIfTooManyHistogramCentroids(100).withTargetHistogramAccuracy(32).withOptimizeHistograms(true).build();
    List<ReportHistogram> read = new ArrayList<>();
    HISTOGRAM.decode(line, read, "test", context);
    ReportHistogram histogram = read.get(0);
    Validation.validateHistogram(histogram, limits);
    answer.put("name", histogram.getMetric());
    answer.put("binMs", histogram.getValue().getDuration());
    answer.put("timestampMs", histogram.getTimestamp());
    answer.put("counts", histogram.getValue().getCounts());
    answer.put("means", histogram.getValue().getBins());
    answer.put("source", histogram.getHost());
    answer.put("tags", pairs(histogram.getAnnotations()));
  }

  private static void span(String line, ValidationConfiguration limits, Map<String, Object> answer) {
    List<Span> read = new ArrayList<>();
    SPAN.decode(line, read, "test", null);
    Span span = read.get(0);
    Validation.validateSpan(span, limits);
    answer.put("name", span.getName());
    answer.put("source", span.getSource());
    answer.put("traceId", span.getTraceId());
    answer.put("spanId", span.getSpanId());
    answer.put("startMs", span.getStartMillis());
    answer.put("durationMs", span.getDuration());
    answer.put("tags", pairs(span.getAnnotations()));
  }

  private static void spanLogs(String line, Map<String, Object> answer) throws Exception {
    List<SpanLogs> read = new ArrayList<>();
    SPAN_LOGS.decode(JSON.readTree(line), read, "test", null);
    SpanLogs logs = read.get(0);
    answer.put("traceId", logs.getTraceId());
    answer.put("spanId", logs.getSpanId());
    answer.put("span", logs.getSpan());
    List<Object> entries = new ArrayList<>();
    logs.getLogs().forEach(log -> entries.add(Map.of("timeUs", log.getTimestamp(), "fields", log.getFields())));
    answer.put("logs", entries);
  }

  private static List<List<String>> pairs(List<Annotation> annotations) {
    List<List<String>> pairs = new ArrayList<>();
    for (Annotation annotation : annotations) pairs.add(List.of(annotation.getKey(), annotation.getValue()));
    return pairs;
  }
}
