package postgres

import (
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/schema"
)

// The kit's records have no key: mode append takes them.
func TestConformanceAppend(t *testing.T) {
	conformance.Sink(t, conformance.SinkKit{New: func(t testing.TB) (connectors.Sink, func() []string) {
		url, c := pg(t)
		return newSink(t, url, map[string]string{"topics": "conformance", "mode": "append"}), func() []string {
			if rows(t, c, "SELECT to_regclass('conformance') IS NOT NULL")[0] == "f" {
				return nil
			}
			return rows(t, c, "SELECT value FROM conformance")
		}
	}})
}

// With the value as key, too, each record is a row of its own in mode upsert.
func TestConformanceUpsert(t *testing.T) {
	text := &schema.Schema{Kind: schema.String, Optional: true}
	conformance.Sink(t, conformance.SinkKit{
		New: func(t testing.TB) (connectors.Sink, func() []string) {
			url, c := pg(t)
			return newSink(t, url, map[string]string{"topics": "conformance"}), func() []string {
				if rows(t, c, "SELECT to_regclass('conformance') IS NOT NULL")[0] == "f" {
					return nil
				}
				return rows(t, c, "SELECT value FROM conformance WHERE _key = value")
			}
		},
		Decode: func(r *connectors.Record) error {
			r.Value = connectors.Datum{Schema: text, Value: schema.TextOf(r.RawValue)}
			r.Key = r.Value
			return nil
		},
	})
}
