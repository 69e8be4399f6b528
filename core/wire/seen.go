package wire

// Seen keeps what a request has named, so that it is answered once: an answer can be much longer than a name, and a request has room for the
// same name a million times.
type Seen[K comparable] map[K]struct{}

// First says whether k is named for the first time.
func (s Seen[K]) First(k K) bool {
	n := len(s)
	s[k] = struct{}{}
	return len(s) > n
}
