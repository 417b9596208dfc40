{{ config(materialized='incremental') }}
select code, count(*) as letters from {{ ref('countries') }}
{% if is_incremental() %}
where code > (select max(code) from {{ this }})
{% endif %}
group by code
