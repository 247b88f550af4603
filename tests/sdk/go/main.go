// Sends log records with the official OpenTelemetry SDK for Go, by slog.
//
//	sender TRANSPORT ENDPOINT records FILE ROUNDS
//	sender TRANSPORT ENDPOINT numbers
//
// ../README.md says what a sender does and prints.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

func newExporter(ctx context.Context, transport, endpoint string) (sdklog.Exporter, error) {
	switch transport {
	case "grpc":
		return otlploggrpc.New(ctx, otlploggrpc.WithEndpointURL(endpoint))
	case "http/protobuf":
		return otlploghttp.New(ctx, otlploghttp.WithEndpointURL(endpoint+"/v1/logs"))
	}
	return nil, errors.New("no exporter for " + transport)
}

// report is what the SDK says of its exports.
type report struct {
	mutex    sync.Mutex
	Emitted  int      `json:"emitted"`
	Exported int      `json:"exported"`
	Failed   int      `json:"failed"`
	Said     []string `json:"said"`
}

func (r *report) say(err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Said = append(r.Said, err.Error())
}

// counted counts the records of each result of its exporter.
type counted struct {
	sdklog.Exporter
	report *report
}

func (c counted) Export(ctx context.Context, records []sdklog.Record) error {
	err := c.Exporter.Export(ctx, records)
	c.report.mutex.Lock()
	defer c.report.mutex.Unlock()
	if err == nil {
		c.report.Exported += len(records)
	} else {
		c.report.Failed += len(records)
	}
	return err
}

// told prints the times that the SDK has given each record.
type told struct{}

func (told) OnEmit(_ context.Context, record *sdklog.Record) error {
	show(map[string]string{
		"time":     strconv.FormatInt(record.Timestamp().UnixNano(), 10),
		"observed": strconv.FormatInt(record.ObservedTimestamp().UnixNano(), 10),
	})
	return nil
}
func (told) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }
func (told) Shutdown(context.Context) error                         { return nil }
func (told) ForceFlush(context.Context) error                       { return nil }

// numbers emits as many numbered records as each line of stdin says, and answers it.
func numbers(log *slog.Logger, report *report) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		count := must(strconv.Atoi(lines.Text()))
		for range count {
			log.Info("numbered", "number", report.Emitted)
			report.Emitted++
		}
		show(map[string]int{"emitted": report.Emitted})
	}
}

func main() {
	ctx, report := context.Background(), &report{Said: []string{}}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(report.say))
	exporter := must(newExporter(ctx, os.Args[1], os.Args[2]))
	options := []sdklog.LoggerProviderOption{
		sdklog.WithProcessor(sdklog.NewBatchProcessor(counted{exporter, report})),
	}
	var set *set
	if os.Args[3] == "records" {
		set = must(readSet(os.Args[4]))
		options = append(options, sdklog.WithProcessor(told{}),
			sdklog.WithResource(must(resource.Merge(resource.Default(), set.resource()))))
	}
	provider := sdklog.NewLoggerProvider(options...)
	if set != nil {
		log := otelslog.NewLogger(set.Scope.Name, otelslog.WithVersion(set.Scope.Version),
			otelslog.WithLoggerProvider(provider))
		report.Emitted = set.send(log, must(strconv.Atoi(os.Args[5])))
	} else {
		numbers(otelslog.NewLogger("numbers", otelslog.WithLoggerProvider(provider)), report)
	}
	if err := provider.Shutdown(ctx); err != nil {
		report.say(err)
	}
	show(report)
}

func show(line any) {
	fmt.Println(string(must(json.Marshal(line))))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
