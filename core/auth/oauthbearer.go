package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// NewOAuthBearer begins an OAUTHBEARER exchange (RFC 7628, KIP-255). check says whose a token is; what it says of one that is refused is for the log, and has nothing of the token.
func NewOAuthBearer(check func(token string) (Token, error)) Exchange {
	return &bearerExchange{check: check}
}

type bearerExchange struct {
	check   func(token string) (Token, error)
	refused error // why; the client has been told that it is, and has to answer
	until   time.Time
}

// invalidToken is what a client is told of a token that is refused (RFC 7628, 3.2.2): nothing but that.
const invalidToken = `{"status":"invalid_token"}`

var errBearer = errors.New("malformed OAUTHBEARER message")

func (b *bearerExchange) Step(said []byte) ([]byte, string, error) {
	if b.refused != nil { // by RFC 7628, 3.2.3 it says %x01 now, and is told by the protocol's own means
		return nil, "", fmt.Errorf("%w: %w", b.refused, &Refusal{invalidToken})
	}
	first, err := parseBearer(string(said))
	if err != nil {
		return nil, "", err
	}
	token, ok := b.accepts(first.token)
	if !ok {
		return []byte(invalidToken), "", nil
	}
	if first.as != "" && first.as != token.Principal {
		return nil, "", &Refusal{"Authentication failed: Client requested an authorization id that is different from the token's principal name"}
	}
	b.until = token.Expires
	return nil, token.Principal, nil
}

// accepts checks a token, and keeps why it is refused.
func (b *bearerExchange) accepts(text string) (Token, bool) {
	token, err := b.check(text)
	b.refused = err
	return token, err == nil
}

func (b *bearerExchange) Refused() error { return b.refused }

func (b *bearerExchange) Until() time.Time { return b.until }

// bearerResponse is a client's first message. Its extensions (KIP-342) mean nothing here, as in Kafka's own handler.
type bearerResponse struct{ as, token string }

// parseBearer reads n,[a=authzid],^A auth=Bearer TOKEN^A [extension=value^A]… ^A, as Kafka's OAuthBearerClientInitialResponse does.
// An error has nothing of the message.
func parseBearer(s string) (r bearerResponse, err error) {
	header, rest, ok := strings.Cut(s, "\x01")
	if !ok {
		return r, fmt.Errorf("%w: no header", errBearer)
	}
	binding, as, ok := strings.Cut(header, ",")
	as, comma := strings.CutSuffix(as, ",")
	if !ok || !comma || binding != "n" {
		return r, fmt.Errorf("%w: no header, or one that asks for channel binding", errBearer)
	}
	if as != "" {
		name, ok := strings.CutPrefix(as, "a=")
		r.as, comma = saslName(name)
		if !ok || !comma || r.as == "" || strings.ContainsFunc(name, func(c rune) bool { return c == 0 || c > 0x7f || c == ',' }) {
			return r, fmt.Errorf("%w: the authorization id is no name", errBearer)
		}
	}
	pairs, ok := strings.CutSuffix(rest, "\x01")
	if !ok {
		return r, fmt.Errorf("%w: no end", errBearer)
	}
	seen := map[string]bool{}
	for pairs != "" {
		var pair string
		if pair, pairs, ok = strings.Cut(pairs, "\x01"); !ok {
			return r, fmt.Errorf("%w: a name and its value have no end", errBearer)
		}
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case name == "" || strings.ContainsFunc(name, notLetter) || value == "" || strings.ContainsFunc(value, notVisible):
			return r, fmt.Errorf("%w: what should be name=value is not", errBearer)
		case seen[name]:
			return r, fmt.Errorf("%w: a name twice", errBearer)
		case len(seen) == maxExtensions:
			return r, fmt.Errorf("%w: more than %d names", errBearer, maxExtensions)
		}
		seen[name] = true
		if name == "auth" {
			if r.token, ok = bearer(value); !ok {
				return r, fmt.Errorf("%w: auth is not Bearer and a token", errBearer)
			}
		}
	}
	if r.token == "" {
		return r, fmt.Errorf("%w: no auth", errBearer)
	}
	return r, nil
}

// maxExtensions bounds what a stranger can have remembered; clients send two or three.
const maxExtensions = 64

// bearer is the token of auth=Bearer TOKEN; the scheme's case does not matter (RFC 6750, 2.1).
func bearer(value string) (token string, ok bool) {
	scheme, rest, _ := strings.Cut(value, " ")
	token = strings.TrimLeft(rest, " ")
	return token, strings.EqualFold(scheme, "bearer") && token != "" && !strings.ContainsFunc(token, notToken)
}

func notLetter(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }

func notVisible(c rune) bool { return (c < 0x20 || c > 0x7e) && c != '\t' && c != '\r' && c != '\n' }

// notToken leaves base64url and points, of which a JWT is made.
func notToken(c rune) bool {
	return notLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}
