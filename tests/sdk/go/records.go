package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// set is ../records.json.
type set struct {
	Scope    struct{ Name, Version string }
	Resource map[string]value
	Records  []record
}

type record struct {
	Kind, Level, Exception string
	Body, Value            *value
	Trace                  *struct {
		TraceID string `json:"trace_id"`
		SpanID  string `json:"span_id"`
		Flags   byte
	}
}

// value is one of its values: one field is set.
type value struct {
	Null   bool
	String *string
	Long   *int
	Bool   *bool
	Int    *int64 `json:",string"`
	Double *string
	Bytes  *string
	Array  *[]*value
	Map    *map[string]*value
}

var levels = map[string]slog.Level{
	"": slog.LevelInfo, "trace": -8, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": 12,
}

func readSet(file string) (*set, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var read set
	return &read, json.Unmarshal(text, &read)
}

// plain is the value as a program would log it.
func (v *value) plain() any {
	switch {
	case v.Null:
		return nil
	case v.String != nil:
		return *v.String
	case v.Long != nil:
		return strings.Repeat("x", *v.Long)
	case v.Bool != nil:
		return *v.Bool
	case v.Int != nil:
		return *v.Int
	case v.Double != nil:
		return must(strconv.ParseFloat(*v.Double, 64))
	case v.Bytes != nil:
		return must(hex.DecodeString(*v.Bytes))
	case v.Array != nil:
		items := []any{}
		for _, item := range *v.Array {
			items = append(items, item.plain())
		}
		return items
	}
	pairs := map[string]any{}
	for key, item := range *v.Map {
		pairs[key] = item.plain()
	}
	return pairs
}

// text is a body as slog can have it.
func (v *value) text() string {
	if text, is := v.plain().(string); is {
		return text
	}
	return string(must(json.Marshal(v.plain())))
}

func (s *set) resource() *resource.Resource {
	var attributes []attribute.KeyValue
	for key, value := range s.Resource {
		switch plain := value.plain().(type) {
		case string:
			attributes = append(attributes, attribute.String(key, plain))
		case bool:
			attributes = append(attributes, attribute.Bool(key, plain))
		case int64:
			attributes = append(attributes, attribute.Int64(key, plain))
		case float64:
			attributes = append(attributes, attribute.Float64(key, plain))
		case []any:
			texts := []string{}
			for _, text := range plain {
				texts = append(texts, text.(string))
			}
			attributes = append(attributes, attribute.StringSlice(key, texts))
		}
	}
	return resource.NewSchemaless(attributes...)
}

// send logs the records as often as it is told to; gives how many that are.
func (s *set) send(log *slog.Logger, rounds int) (index int) {
	for range rounds {
		for _, record := range s.Records {
			record.send(log, index)
			index++
		}
	}
	return index
}

func (r record) send(log *slog.Logger, index int) {
	ctx, body := context.Background(), r.Kind
	if r.Trace != nil {
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID:    must(trace.TraceIDFromHex(r.Trace.TraceID)),
			SpanID:     must(trace.SpanIDFromHex(r.Trace.SpanID)),
			TraceFlags: trace.TraceFlags(r.Trace.Flags),
		}))
	}
	if r.Body != nil {
		body = r.Body.text()
	}
	attributes := []any{"index", index}
	if r.Value != nil {
		attributes = append(attributes, "value", r.Value.plain())
	}
	if r.Exception != "" {
		attributes = append(attributes, "error", errors.New(r.Exception))
	}
	log.Log(ctx, levels[r.Level], body, attributes...)
}
