package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// findings collects what Validate sees.
type findings []spec.Finding

func (f *findings) err(path string, err error) {
	var fatal *connectors.FatalError
	hint := ""
	if errors.As(err, &fatal) {
		hint = fatal.Hint
	}
	*f = append(*f, spec.Finding{Path: path, Message: err.Error(), Hint: hint})
}

// Validate looks at the live server: reachable, a replica set, readable. It changes nothing.
func (s *sink) Validate(ctx context.Context) []spec.Finding {
	var f findings
	c, err := s.connect()
	if err != nil {
		f.err("url", err)
		return f
	}
	defer func() { _ = disconnect(c) }() // the findings are what counts
	if err := identify(ctx, c); err != nil {
		f.err("url", err)
		return f
	}
	offsets := c.Database(s.cfg.database, majority()).Collection(s.cfg.offsets)
	for _, topic := range s.cfg.topics {
		if s.cfg.collection == "" && strings.ContainsAny(topic, "*?") {
			topic = "" // which collections these are is seen when they come; the rights show all the same
		}
		other, err := otherTopic(ctx, offsets, s.collectionName(topic), topic)
		if err != nil {
			f.err("url", err)
			return f
		}
		if other != nil && s.cfg.upsert && topic != "" {
			f = append(f, spec.Finding{Path: "topics", Message: fmt.Sprintf("collection %s.%s already holds topic %s (sink %s)", s.cfg.database, other.Target, other.ID.Topic, other.ID.Sink),
				Hint: "give one of the two sinks another collection or database"})
		}
	}
	return f
}
