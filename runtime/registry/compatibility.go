package registry

import (
	"fmt"
	"slices"
	"strings"
)

// The compatibility levels; what they mean is in https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html.
var levels = []string{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}

const defaultLevel = "BACKWARD"

// The modes. READONLY_OVERRIDE is what older registries wrote.
const (
	readWrite = "READWRITE"
	importing = "IMPORT"
)

var modes = []string{readWrite, "READONLY", "READONLY_OVERRIDE", importing}

func isReadOnly(mode string) bool { return mode == "READONLY" || mode == "READONLY_OVERRIDE" }

// maxShown is how much of an old schema a message repeats.
const maxShown = 10 << 10

// compatible says why a schema may not follow earlier versions, given rising; nothing when it may. BACKWARD: the new one reads what the last one wrote.
// FORWARD: the last one reads what the new one writes. FULL: both. Transitive ones ask all versions, the newest first, and end at the first that does not fit.
func (s *state) compatible(subject string, next schema, kind string, earlier []*schemaValue) ([]string, error) {
	level := s.level(subject)
	direction, transitive := strings.CutSuffix(level, "_TRANSITIVE")
	if direction == "NONE" {
		return nil, nil
	}
	if !transitive && len(earlier) > 1 {
		earlier = earlier[len(earlier)-1:]
	}
	for _, v := range slices.Backward(earlier) {
		var found []string
		if v.kind() != kind {
			found = []string{"Incompatible because of different schema type"}
		} else {
			old, err := s.parse(v, rules{})
			if err != nil {
				return nil, fmt.Errorf("subject %s version %d: %w", subject, v.Version, err)
			}
			if direction != "BACKWARD" {
				found = old.read(next, "old", "new")
			}
			if direction != "FORWARD" {
				found = append(found, next.read(old, "new", "old")...)
			}
			if len(found) > 0 {
				text := v.Schema
				if len(text) > maxShown {
					text = "<truncated> '" + strings.ToValidUTF8(text[:maxShown], "") + "...'"
				} else {
					text = "'" + text + "'"
				}
				found = append(found, fmt.Sprintf("{oldSchemaVersion: %d}", v.Version), "{oldSchema: "+text+"}")
			}
		}
		if len(found) > 0 {
			return append(found, fmt.Sprintf("{validateFields: 'false', compatibility: '%s'}", level)), nil
		}
	}
	return nil, nil
}
