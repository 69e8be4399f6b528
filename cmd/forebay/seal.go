package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// seal is how workers with a token in common show each other that they have it, without TLS. Not the obvious way, to send the token: whoever may read a
// consumer group in Kafka may join the workers' group as well, with an address of his own, and is asked there. What he gets is good for one request, at that address, for sealedFor.
//
// The header is "TIME BODY MAC": seconds since 1970; SHA-256 of the body; HMAC-SHA-256 by the token over what, address, method, URI, TIME and BODY, a line each.
type seal struct {
	token string
	at    string // where this process is asked, as it tells its group
	now   func() time.Time
	next  http.RoundTripper
}

const (
	sealHeader = "Forebay-Seal"
	// sealedFor is how far two hosts' clocks may be apart, as in Kerberos.
	sealedFor = 5 * time.Minute
	// maxSealed bounds a body, as the REST API does.
	maxSealed = 8 << 20
)

// client is for asking the other workers. It goes where it was told to only: who is asked may not send it on.
func (s *seal) client() *http.Client {
	return &http.Client{Transport: s, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip seals a request whose body can be had again (GetBody).
func (s *seal) RoundTrip(r *http.Request) (*http.Response, error) {
	body := io.ReadCloser(http.NoBody)
	if r.GetBody != nil {
		var err error
		if body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	said := fmt.Sprintf("%d %x", s.now().Unix(), sum)
	r = r.Clone(r.Context())
	r.Header.Set(sealHeader, fmt.Sprintf("%s %x", said, s.mac(r.URL.Host, r.Method, r.URL.RequestURI(), said)))
	return s.next.RoundTrip(r)
}

func (s *seal) mac(addr, method, uri, said string) []byte {
	h := hmac.New(sha256.New, []byte(s.token))
	fmt.Fprintf(h, "forebay worker\n%s\n%s\n%s\n%s", addr, method, uri, said)
	return h.Sum(nil)
}

// holds says whether another worker has sealed a request, for this process. No body is read before the rest is known to be right.
func (s *seal) holds(r *http.Request) bool {
	f := strings.Split(r.Header.Get(sealHeader), " ")
	if len(f) != 3 {
		return false
	}
	at, err := strconv.ParseInt(f[0], 10, 64)
	mac, merr := hex.DecodeString(f[2])
	if err != nil || merr != nil || s.now().Sub(time.Unix(at, 0)).Abs() > sealedFor || !hmac.Equal(mac, s.mac(s.at, r.Method, r.RequestURI, f[0]+" "+f[1])) {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxSealed+1))
	if err != nil || len(text) > maxSealed || fmt.Sprintf("%x", sha256.Sum256(text)) != f[1] {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return true
}
