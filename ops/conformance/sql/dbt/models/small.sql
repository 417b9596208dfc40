{{ config(materialized='view') }}
select code, name from {{ ref('countries') }} where code not in (select code from {{ ref('large') }})
