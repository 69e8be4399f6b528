package hublog

import (
	"errors"
	"slices"
	"testing"
)

// What is committed is applied, in its order and when it is committed; what is aborted is not.
func TestTransactions(t *testing.T) {
	var got []string
	txns := NewTransactions(func(s string) { got = append(got, s) })
	add := func(producer, offset int64, value string) {
		txns.Add(Entry{ProducerID: producer, Offset: offset, Transactional: producer > 0}, value)
	}
	end := func(producer int64, commit bool) {
		if !txns.Marker(Entry{ProducerID: producer, Control: true, Commit: commit}) {
			t.Error("a marker is none")
		}
	}
	if txns.Marker(Entry{ProducerID: 1}) {
		t.Error("a record is a marker")
	}
	add(1, 0, "a")
	add(2, 1, "b")
	add(0, 2, "plain")
	add(1, 3, "c")
	end(2, false)
	end(1, true)
	end(1, true) // an empty one
	if want := []string{"plain", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	add(3, 7, "marker compacted away")
	add(4, 9, "open")
	open := errors.New("open")
	if err := txns.Finish(8, func(producer, offset int64, value string) error {
		if producer != 4 || offset != 9 || value != "open" {
			t.Errorf("%d %d %s is open", producer, offset, value)
		}
		return open
	}); !errors.Is(err, open) {
		t.Error(err)
	}
	_ = txns.Finish(8, nil) // gives no error without a function
	if !slices.Contains(got, "marker compacted away") || slices.Contains(got, "open") {
		t.Errorf("%v", got)
	}
}
