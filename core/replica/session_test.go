package replica

import (
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDoubtWithoutSession is a partition that a leader refuses while its cache of sessions is full: it gives none, and
// nothing is remembered as sent.
func TestDoubtWithoutSession(t *testing.T) {
	var s fetchSession
	k := fetchKey{uuid.UUID{1}, 0}
	s.request(map[fetchKey]*fetched{})
	s.sent[k] = sentPosition{offset: 3}
	if !s.answered(kmsg.NewPtrFetchResponse()) {
		t.Fatal("an answer without a session is none")
	}
	s.doubt(k)
	if was, ok := s.sent[k]; ok {
		t.Errorf("%+v counts as sent", was)
	}
}
