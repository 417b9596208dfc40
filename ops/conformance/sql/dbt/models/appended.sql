{{ config(materialized='incremental') }}
select {% if is_incremental() %}2{% else %}1{% endif %} as run, count(*) as countries from {{ ref('countries') }}
