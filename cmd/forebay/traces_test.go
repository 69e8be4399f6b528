package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// With the variables of every OpenTelemetry SDK, what connectors do comes to a collector as traces.
func TestTraces(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		text, err := io.ReadAll(body)
		req := &collector.ExportTraceServiceRequest{}
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(text, req) != nil {
			http.Error(w, "not spans", http.StatusBadRequest)
			return
		}
		got <- req
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_SERVICE_NAME", "hub-1")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	startUp(t, threeLines(t))
	seen, limit := "", time.After(30*time.Second)
	for !strings.Contains(seen, " source transaction of app by hub-1 ") || !strings.Contains(seen, " sink transaction of lake by hub-1 ") {
		select {
		case req := <-got:
			for _, r := range req.ResourceSpans {
				service := ""
				for _, a := range r.Resource.Attributes {
					if a.Key == "service.name" {
						service = a.Value.GetStringValue()
					}
				}
				for _, scope := range r.ScopeSpans {
					for _, s := range scope.Spans {
						for _, a := range s.Attributes {
							if a.Key == "forebay.connector" {
								seen += " " + s.Name + " of " + a.Value.GetStringValue() + " by " + service + " "
							}
						}
					}
				}
			}
		case <-limit:
			t.Fatalf("the collector has%s", seen)
		}
	}
}

func TestTracesThatCannotBeSent(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", `OTEL_EXPORTER_OTLP_ENDPOINT is "collector:4318": not a URL`},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is "grpc"`},
		{"OTEL_TRACES_EXPORTER", "jaeger", `OTEL_TRACES_EXPORTER is "jaeger"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(c.name, c.value)
			var out, errs strings.Builder
			if code := run(t.Context(), []string{"up", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, nil, &out, &errs); code == 0 || !strings.Contains(errs.String(), c.want) {
				t.Errorf("code %d, %q", code, errs.String())
			}
		})
	}
}
