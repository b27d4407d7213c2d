"""A small airport for tests of the demo: the CSV files of the real data, with invented flights."""

from __future__ import annotations

import zipfile
from pathlib import Path

DAYS = 3
FLIGHTS_A_DAY = 400
FLIGHTS = DAYS * FLIGHTS_A_DAY

_FLIGHT_COLUMNS = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
    "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)


def write_airport(folder: Path) -> Path:
    """Write the files; the flights of each day are spread over 16 hours, one in 20 is cancelled."""
    rows = [_FLIGHT_COLUMNS]
    for number in range(FLIGHTS):
        day, of_day = divmod(number, FLIGHTS_A_DAY)
        hour, minute = 5 + of_day // 25, of_day * 7 % 60
        delay, arrival, air_time = ("NA",) * 3 if number % 20 == 7 else (of_day % 30, 5, 90)
        tailnum = "NA" if number % 50 == 3 else f"N{number % 60}"
        utc_day, utc_hour = divmod(hour + 5, 24)
        rows.append(
            f"2013,1,{day + 1},NA,{hour}{minute:02d},{delay},NA,NA,{arrival},"
            f"{('UA', 'AA', 'B6')[number % 3]},{1000 + number},{tailnum},"
            f"{('EWR', 'JFK', 'LGA')[number % 3]},BOS,{air_time},200,{hour},{minute},"
            f"2013-01-{day + 1 + utc_day:02d}T{utc_hour:02d}:00:00Z"
        )
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "\n".join(rows))
    planes = ["tailnum,year,type,manufacturer,model,engines,seats,speed,engine"]
    planes += [f"N{number},NA,jet,MAKER,M-1,2,180,NA,Turbo-fan" for number in range(50)]
    (folder / "planes.csv").write_text("\n".join(planes))
    (folder / "airlines.csv").write_text("carrier,name\nUA,United\nAA,American\nB6,JetBlue\n")
    (folder / "airports.csv").write_text(
        "faa,name,lat,lon,alt,tz,dst,tzone\n"
        "BOS,Boston,42.36,-71.00,20,-5,A,America/New_York\n"
        "XXX,Nowhere,1.5,2.5,-3,-5,A,NA\n"
    )
    (folder / "weather.csv").write_text(
        "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,"
        "visib,time_hour\n"
        "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.3,NA,0,NA,10,2013-01-01T06:00:00Z\n"
    )
    return folder
