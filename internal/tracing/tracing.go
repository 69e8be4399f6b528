// Package tracing sends spans to an OpenTelemetry collector over OTLP/HTTP, if the environment names one. It takes the variables that
// every OpenTelemetry SDK takes (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables), and costs nothing without them.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	endpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	protocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	tracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	binary         = "http/protobuf"
	complainEvery  = time.Minute
)

// Tracing is where spans go.
type Tracing struct {
	Tracer   trace.Tracer // nil: nobody collects them
	provider *sdk.TracerProvider
}

// FromEnvironment makes it. Spans wait in memory, at most 2,048, and what the collector does not take is dropped and told to log.
func FromEnvironment(ctx context.Context, version string, log *slog.Logger) (*Tracing, error) {
	wanted := first(tracesEndpoint, endpoint)
	if wanted == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return &Tracing{}, nil
	}
	if e := os.Getenv("OTEL_TRACES_EXPORTER"); e != "" && e != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q (otlp and none are known)", e)
	}
	if u, err := url.Parse(wanted); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is %q: not a URL (as in http://127.0.0.1:4318)", set(tracesEndpoint, endpoint), wanted)
	}
	if p := first(tracesProtocol, protocol); p != "" && p != binary {
		return nil, fmt.Errorf("%s is %q: spans are sent as %s, which collectors take at port 4318", set(tracesProtocol, protocol), p, binary)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	// The later wins: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES over ours.
	res, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "forebay"), attribute.String("service.version", version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("traces: %w", err)
	}
	var told atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now := time.Now().UnixNano()
		if last := told.Load(); now-last > int64(complainEvery) && told.CompareAndSwap(last, now) {
			log.Warn("spans are not sent", "to", wanted, "error", err)
		}
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(res))
	return &Tracing{provider.Tracer("github.com/forebayhub/forebay"), provider}, nil
}

// Close sends what waits, until ctx ends.
func (t *Tracing) Close(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// first is the value of the first variable that has one.
func first(names ...string) string { return os.Getenv(set(names...)) }

// set is the first of the variables that has a value; the last, if none has.
func set(names ...string) string {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return names[len(names)-1]
}
