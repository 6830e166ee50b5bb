CREATE TABLE airports (
  icao STRING(8) NOT NULL,
  iata STRING(8),
  name STRING(MAX),
  city STRING(MAX),
  subd STRING(MAX),
  country STRING(2),
  elevation FLOAT64,
  lat FLOAT64,
  lon FLOAT64,
  tz STRING(MAX),
  lid STRING(16)
) PRIMARY KEY (icao);

CREATE TABLE accounts (
  icao STRING(8) NOT NULL,
  cents INT64 NOT NULL
) PRIMARY KEY (icao);

CREATE TABLE settlements (
  withdrawal STRING(36) NOT NULL,
  deposit STRING(36) NOT NULL,
  cents INT64 NOT NULL
) PRIMARY KEY (withdrawal)
