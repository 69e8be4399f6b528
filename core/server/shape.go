package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// decode reads a request of this version. No request is decoded without it: see wire.Shape.
func (a *api) decode(version int16, body []byte, req kmsg.Request) error {
	req.SetVersion(version)
	if err := a.shape(version).Check(body); err != nil {
		return err
	}
	return req.ReadFrom(body)
}

func (a *api) shape(version int16) *wire.Shape {
	at := &a.shapes[version]
	s := at.Load()
	if s == nil {
		s = wire.Learn(func() wire.Message { return a.key.Request() }, version)
		at.Store(s)
	}
	return s
}
