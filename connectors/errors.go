package connectors

import "errors"

// FatalError marks an error that no retry can mend: the task stops and says so.
type FatalError struct {
	Err    error
	Hint   string // how to mend it
	Fenced bool   // see Fenced
}

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }

// Fatal marks err as one that no retry can mend.
func Fatal(err error, hint string) error { return &FatalError{Err: err, Hint: hint} }

// Fenced marks err as one of a task that another one has replaced in its target. No retry of the task mends it; but
// should the group of workers say that the connector is this worker's all the same, it was a zombie, and the runtime begins anew.
func Fenced(err error, hint string) error { return &FatalError{Err: err, Hint: hint, Fenced: true} }

// IsFenced says whether err or a cause of it was marked by Fenced.
func IsFenced(err error) bool {
	var f *FatalError
	return errors.As(err, &f) && f.Fenced
}

// IsFatal says whether err or a cause of it was marked by Fatal.
func IsFatal(err error) bool {
	var f *FatalError
	return errors.As(err, &f)
}
