"""The HTTP interface of the service. Only this package imports FastAPI, uvicorn and Prometheus."""
