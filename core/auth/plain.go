package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
)

// NewPlain begins a PLAIN exchange (RFC 4616) against users and their passwords. The password crosses the wire as it
// is, so the connection should be encrypted.
func NewPlain(passwords map[string]string) Exchange { return plainExchange(passwords) }

type plainExchange map[string]string

// Kafka's words (PlainSaslServer), which tools show.
func refusePlain(what string) error { return &Refusal{"Authentication failed: " + what} }

func (p plainExchange) Step(said []byte) ([]byte, string, error) {
	parts := bytes.Split(said, []byte{0})
	if len(parts) != 3 {
		return nil, "", refusePlain("Invalid SASL/PLAIN response: expected 3 tokens")
	}
	as, user, password := string(parts[0]), string(parts[1]), parts[2]
	switch {
	case user == "":
		return nil, "", refusePlain("username not specified")
	case len(password) == 0:
		return nil, "", refusePlain("password not specified")
	}
	want, known := p[user]
	// Sums of one length: the comparison tells nothing by the time it takes.
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256(password)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !known {
		return nil, "", refusePlain("Invalid username or password")
	}
	if as != "" && as != user {
		return nil, "", refusePlain("Client requested an authorization id that is different from username")
	}
	return nil, user, nil
}
