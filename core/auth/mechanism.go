package auth

import (
	"errors"
	"time"
)

// Exchange is one client's way through a SASL mechanism. It is used once, by one goroutine.
type Exchange interface {
	// Step takes what the client says and gives what it is told. A user is who it is, once that is proved.
	// An error is final; a *Refusal has words that a client may read.
	Step(said []byte) (told []byte, user string, err error)
}

// Lasting is an Exchange whose proof lasts for a time only.
type Lasting interface {
	// Until is when the proof that Step has taken is over.
	Until() time.Time
}

// Refuser is an Exchange that tells a client of a refusal before it fails: some go then without a word.
type Refuser interface {
	// Refused is why; nil: it has not.
	Refused() error
}

// ErrCredentials is the answer to a client whose proof is wrong, or whose name nobody has: which of the two, it does not learn.
var ErrCredentials = errors.New("invalid credentials")

// Refusal is an error that a client may read.
type Refusal struct{ Message string }

func (r *Refusal) Error() string { return r.Message }

// SASL is what a listener asks of its clients.
type SASL struct {
	// Mechanisms are those that are enabled, by the names that SaslHandshake has. Like sasl.enabled.mechanisms.
	Mechanisms []string
	// Begin makes an Exchange of an enabled mechanism.
	Begin func(mechanism string) Exchange
}

// The mechanisms that are served.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)
