package cdc

import (
	"encoding/json"
	"strings"

	"github.com/forebayhub/forebay/connectors"
)

// StateCopying is the state, in the position of a table or collection, of one whose snapshot is not over.
const StateCopying = "copying"

// Copying names the first, in the order of names, of what is being copied by positions of the form {"state": …} whose
// keys begin with prefix. A source without any position has not begun.
func Copying(positions map[connectors.PositionKey]connectors.Position, prefix string) string {
	if len(positions) == 0 {
		return "its beginning"
	}
	first := ""
	for key, p := range positions {
		name, ok := strings.CutPrefix(string(key), prefix)
		var at struct {
			State string `json:"state"`
		}
		if !ok || first != "" && first <= name || json.Unmarshal(p, &at) != nil { // what cannot be read is the task's to refuse
			continue
		}
		if at.State == StateCopying {
			first = name
		}
	}
	return first
}
